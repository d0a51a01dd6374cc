;; It wants small calls, and makes a large one.
;; step: data: one call carried more than 1 MiB
;; limits: {"one_call":"1MiB"}
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 32)))
  (call $log (i32.const 1) (i32.const 0) (i32.const 1100000))
  (i32.const 32))
