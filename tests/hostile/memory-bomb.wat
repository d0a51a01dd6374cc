;; It takes page after page and writes to each.
;; step: memory: it wanted 257 MiB, and 256 MiB is the most
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (local $at i32)
  (loop $more
    (local.set $at (i32.mul (memory.grow (i32.const 16)) (i32.const 65536)))
    (memory.fill (local.get $at) (i32.const 7) (i32.const 1048576))
    (br $more))
  (unreachable))
