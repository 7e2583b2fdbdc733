"""ROS 2 without ROS: the messages of a mask, recordings (bags) in and out, and a node.

    images     sensor_msgs Image and CompressedImage → BGR pictures
    messages   masks, grids, scans, clouds → messages and their bytes
    topics     which messages a step becomes, under the names that Nav2 reads
    bags       recordings of ROS 2 (MCAP, SQLite) and ROS 1, also damaged ones; and a writer of MCAP
    cameras    camera_info → `runtime.ground.CameraModel`

Bytes and types come from rosbags and mcap, of the extra `ros`, imported where they are used.
"""
