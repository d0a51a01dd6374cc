;; It wants more memory than is usual, and takes it.
;; well
;; limits: {"memory":"320MiB"}
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (if (i32.eq (memory.grow (i32.const 4800)) (i32.const -1)) (then (unreachable)))
  (i32.const 32))
