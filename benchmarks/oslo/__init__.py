"""oslo.messaging's existing driver ``kafka://`` beside ours, ``rdkafka://``, through oslo.messaging's public API."""
