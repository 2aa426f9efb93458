"""Prefect flows: when and where the stages run. What a stage is and whether it has been done is DVC's business."""
