;; A handle that nobody gave.
;; step: handle
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (call $read (i32.const 4711) (i32.const 80) (i32.const 2) (i64.const 1) (i32.const 128))
  (i32.const 32))
