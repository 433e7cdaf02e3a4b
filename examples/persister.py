import rdknotify

# Rows and offsets go into the database in one transaction: nothing is lost and nothing is there twice, however often
# this process is killed. Start it as often as there is work to share; the members divide the partitions.
persister = rdknotify.Persister(
    "kafka://localhost:9092",
    ["notifications.info", "notifications.error"],
    group="persister",
    sink=rdknotify.SQLiteSink("notifications.db", table="notifications"),
    batch_size=5000,  # store when so many records are in hand ...
    max_wait=1.0,  # ... or when the first has waited so many seconds
    dead_letter="notifications.dead-letter",  # where records go that are not notifications
)
persister.run()  # until SIGINT or SIGTERM; then stores what it has and leaves the group

counts = persister.counts
print(f"{counts.received} received, {counts.stored} stored, {counts.duplicates} duplicates left out")
