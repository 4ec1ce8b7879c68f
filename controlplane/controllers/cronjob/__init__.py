"""CronJobs: Jobs made at the times that a schedule says.

``schedule``
    What times a schedule means.
``times``
    Which of them is due, and when to look again.
``status``
    What the status says of Jobs that were made.
``controller``
    Makes them.
"""
