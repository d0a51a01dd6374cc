;; It wants little memory, and takes much.
;; step: memory: it wanted 9 MiB, and 8 MiB is the most
;; limits: {"memory":"8MiB"}
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (loop $more
    (drop (memory.grow (i32.const 16)))
    (br $more))
  (unreachable))
