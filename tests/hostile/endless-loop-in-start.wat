;; It never ends starting.
;; refused: time
(func $start (loop $again (br $again)))
(start $start)
