"""The stages of a run, one file each: data → world_model → rollout → vqa, and the auxiliary stages."""
