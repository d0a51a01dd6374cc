;; Handle after handle.
;; step: handles: it held more than 10000 at once
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (loop $more
    (drop (call $controller))
    (br $more))
  (unreachable))
