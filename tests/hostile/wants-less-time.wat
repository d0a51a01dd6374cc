;; It wants two seconds, and its step says nothing of time.
;; step: time: the step's time was over
;; timeout: none
;; limits: {"time":"2s"}
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (loop $again (br $again))
  (unreachable))
