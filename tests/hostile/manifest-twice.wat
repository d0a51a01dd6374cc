;; It has two manifests.
;; refused: it has several manifests
(component
  (@custom "runbook:manifest" "{SECTION}")
  (core module (@custom "runbook:manifest" "{SECTION}"))
  (instance $none)
  (export "runbook:plugin/action@0.1.0" (instance $none)))
