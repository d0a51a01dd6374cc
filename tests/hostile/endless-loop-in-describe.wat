;; It never ends saying what it is.
;; refused: time
(func (export "describe") (result i32)
  (loop $again (br $again))
  (unreachable))
