;; It takes table entry after table entry.
;; step: tables: it wanted
(table $table 0 funcref)
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (loop $more
    (drop (table.grow $table (ref.null func) (i32.const 65536)))
    (br $more))
  (unreachable))
