"""A page that shows what a robot without a screen sees.

    python -m runtime.camera --source 0 --serve 127.0.0.1:8080

Also for programs: `/stream.mjpg`, `/frame.jpg`, `/mask.png`, `/ground.png`, `/stats.json`, `/metrics`,
`/healthz`.
`runtime.outputs.page.Page` is the output that fills it.
"""
