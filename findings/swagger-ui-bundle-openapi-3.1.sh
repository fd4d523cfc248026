#!/bin/sh
# swagger-ui-bundle 1.1.0, its newest release. The surprise: the Swagger UI in it is 4.15.5, which shows a document of OpenAPI
# 3.0 and says of the same document with "openapi": "3.1.0" that it has no valid version field. FastAPI writes 3.1. (Swagger UI
# shows 3.1 from 5.0 on.) The page is run by jsdom, as in a browser.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install -q swagger-ui-bundle==1.1.0
npm install --silent --no-fund --no-audit jsdom@24.1.3 >/dev/null
cat > show.js <<'END'
const {JSDOM} = require("jsdom");
const script = require("fs").readFileSync(process.argv[2], "utf8");

async function shown(version) {
  const page = new JSDOM('<div id="ui"></div>', {runScripts: "outside-only", pretendToBeVisual: true, url: "http://localhost/"});
  page.window.matchMedia = () => ({matches: false, addListener() {}, removeListener() {}});
  page.window.eval(script);
  const spec = {openapi: version, info: {title: "Pets", version: "1"}, paths: {"/pets": {get: {responses: {200: {description: "a list"}}}}}};
  page.window.SwaggerUIBundle({domNode: page.window.document.getElementById("ui"), spec});
  await new Promise(resolve => setTimeout(resolve, 3000));
  return page.window.document.getElementById("ui").textContent.replace(/\s+/g, " ");
}

(async () => {
  const old = await shown("3.0.3"), current = await shown("3.1.0");
  console.log("3.0.3:", old.slice(0, 60));
  console.log("3.1.0:", current.slice(0, 120));
  process.exit(old.includes("/pets") && current.includes("does not specify a valid version field") && !current.includes("/pets") ? 0 : 1);
})();
END
found=$(ls -d v/lib/python3*/site-packages/swagger_ui_bundle/vendor/swagger-ui-*)
echo "$(basename "$found")"
[ "$(basename "$found")" = swagger-ui-4.15.5 ]
node show.js "$found/swagger-ui-bundle.js"
