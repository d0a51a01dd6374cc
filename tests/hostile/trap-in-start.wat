;; It gives up when it starts.
;; refused: unreachable
(func $start (unreachable))
(start $start)
