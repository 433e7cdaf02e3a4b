import rdknotify

URL = "kafka://localhost:9092"

with rdknotify.Notifier(URL, publisher_id="compute.node1", topics=["notifications"]) as notifier:
    # One by one: returns at once, delivered in the background.
    notifier.info({"request_id": "req-1"}, "compute.instance.create.end", {"instance": "web-1"})

    # In bulk: one call, and a report of what became of each.
    events = [("compute.instance.exists", {"instance": f"web-{number}"}) for number in range(1000)]
    delivery = notifier.notify_batch("info", events)
    report = delivery.result(timeout=30)
    for failure in report.failures:
        print(events[failure.index], failure.outcome.name, failure.error)
    print(f"{report.delivered} of {report.total} delivered")

    notifier.flush(timeout=30)  # raises DeliveryError, naming what was not delivered
