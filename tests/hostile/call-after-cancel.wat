;; It takes no hint that its time is over. It counts between its calls: what stops it is the time, not their number.
;; step: time: the step's time was over
;; timeout: 2s
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (local $left i32)
  (loop $more
    (call $pause (i32.const 10) (i32.const 128))
    (local.set $left (i32.const 1000000))
    (loop $count
      (br_if $count (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (br $more))
  (unreachable))
