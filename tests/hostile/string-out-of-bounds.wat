;; A text that begins within the memory and ends beyond.
;; step: out of bounds
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (call $log (i32.const 1) (i32.const 80) (i32.const 2147483647))
  (i32.const 32))
