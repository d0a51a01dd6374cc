;; Call after call, each denied.
;; step: calls: it made more than 100000
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (local $tree i32)
  (local.set $tree (call $controller))
  (loop $more
    (call $read (local.get $tree) (i32.const 80) (i32.const 2) (i64.const 1) (i32.const 128))
    (br $more))
  (unreachable))
