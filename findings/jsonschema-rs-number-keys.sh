#!/bin/sh
# jsonschema-rs 0.61.2. The surprise: the path of an error has the number 7 where the document has the key "007", or "7", of an object:
# what looks like an index of a list is one, and the key as it was written cannot be had from the error. jsonschema 4.25 gives
# the key. Who leads a user to the line of his file cannot place such an error.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install -q jsonschema-rs==0.61.2 jsonschema==4.25.1
cat > paths.py <<'END'
import jsonschema, jsonschema_rs

schema = {"type": "object", "additionalProperties": {"type": "integer"}}
seen = {}
for key in ("007", "7", "seven"):
    (quick,) = jsonschema_rs.validator_for(schema).iter_errors({key: "x"})
    (plain,) = jsonschema.Draft202012Validator(schema).iter_errors({key: "x"})
    seen[key] = (list(quick.instance_path), list(plain.absolute_path))
    print(repr(key), "jsonschema-rs:", seen[key][0], "jsonschema:", seen[key][1])
assert seen == {"007": ([7], ["007"]), "7": ([7], ["7"]), "seven": (["seven"], ["seven"])}, seen
END
v/bin/python paths.py
