;; A handle that is given back twice.
;; step: handle
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (local $tree i32)
  (local.set $tree (call $controller))
  (call $drop (local.get $tree))
  (call $drop (local.get $tree))
  (i32.const 32))
