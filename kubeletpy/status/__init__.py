"""PodStatus from what is observed; pure."""
