;; Its manifest is no UTF-8.
;; refused: its manifest cannot be read
(component
  (@custom "runbook:manifest" "\ff\fe{}")
  (instance $none)
  (export "runbook:plugin/action@0.1.0" (instance $none)))
