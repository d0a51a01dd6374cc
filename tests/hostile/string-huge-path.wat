;; A path of 60 MiB: refused in its own words, many times over.
;; step: time: the step's time was over
;; timeout: 3s
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (local $tree i32)
  (drop (memory.grow (i32.const 1000)))
  (memory.fill (i32.const 131072) (i32.const 0x2f) (i32.const 62914560))
  (local.set $tree (call $controller))
  (loop $more
    (call $read (local.get $tree) (i32.const 131072) (i32.const 62914560) (i64.const 1) (i32.const 128))
    (br $more))
  (unreachable))
