;; It says that it is another plugin.
;; refused: `bad` calls itself `core` in its manifest
(component
  (@custom "runbook:manifest" "{\"name\":\"core\",\"version\":\"1.0.0\",\"summary\":\"Not me\",\"action\":[{\"name\":\"do\",\"summary\":\"x\"}]}")
  (instance $none)
  (export "runbook:plugin/action@0.1.0" (instance $none)))
