"""Images as pods need them: pull policies, back-off and events."""
