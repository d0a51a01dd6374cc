;; A handle that was given back.
;; step: handle
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (local $tree i32)
  (local.set $tree (call $controller))
  (call $drop (local.get $tree))
  (call $read (local.get $tree) (i32.const 80) (i32.const 2) (i64.const 1) (i32.const 128))
  (i32.const 32))
