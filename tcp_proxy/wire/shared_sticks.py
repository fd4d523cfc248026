"""What the stick tables' thread and the cluster agent say to each other, by a socket of their own, as workers do
(wire.stick_table): batches of items, marshalled.

    tables -> agent   (APPS, {app: expires})                 which are shared, and how long an entry lives; seconds
                      (PLACES, {app: {target: place}})       where their targets are, by which nodes know them that have
                                                             other names for them
                      (CREATE, number, app, key, target)     if there is none                    } answered by
                      (MOVE, number, app, key, target, seen) if it is still `seen`'s             } (ANSWER, number, target)
                      (SET, number, app, key, target)        whatever it was; target "": gone; answered by (STANDS, number),
                                                             or as one of the others
                      (OPENED, app, key) · (IDLE, app, key)  this node has sessions of it · has none any more
    agent -> tables   (ANSWER, number, target)               whose it is now; "": nobody could be asked
                      (STANDS, number)                       it is as it was SET
                      (NEWS, app, key, target)               whose it is; "": it is gone
                      (BEGIN,) … (DONE,)                     what is told in between is all there is
                      (OFFLINE,) · (ONLINE,)                 nobody can be asked · somebody can, and nothing was missed
"""

APPS, CREATE, MOVE, SET, OPENED, IDLE, ANSWER, NEWS, BEGIN, DONE, OFFLINE, ONLINE, PLACES, STANDS = range(14)
