"""Why a pod is as it is: what it waits for, since when, what was tried, what comes next."""
