"""The durable queue. `api` is what others see; `sqlite` and `memory` implement it and pass the same tests."""
