;; It wants twenty million table entries to begin with.
;; refused: tables: it wanted
(table $table 20000000 funcref)
