import rdknotify


class Billing:
    filter_rule = rdknotify.NotificationFilter(event_type=r"compute\.instance\..*")

    def info(self, ctxt, publisher_id, event_type, payload, metadata):
        print(f"{publisher_id}: {event_type} {payload['instance']}", flush=True)
        if payload["instance"] == "busy":
            return rdknotify.NotificationResult.REQUEUE  # seen again in 5 seconds, at most 5 times
        return rdknotify.NotificationResult.HANDLED


listener = rdknotify.Listener(
    "kafka://localhost:9092",
    ["notifications"],
    [Billing()],
    pool="billing",  # each pool gets every notification, its members share them
    settle="after",  # commit after the endpoint: nothing is lost; "before": nothing is seen twice
)
listener.run()  # until SIGINT or SIGTERM; then finishes what it has and leaves the group
