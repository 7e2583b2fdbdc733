"""Archives: a fleet's recordings, cut into chunks that any number of workers segment, each exactly once.

What each module is about:

jobs      which recordings there are, and where each is cut
chunk     one chunk: read, segment, write a shard
reading   the frames of chunks
columns   what is kept of each frame
shards    what a shard holds, its name, and whether it is whole
engine    the same work in this process or on Ray
manifest  what a folder of shards holds
results   tables, pictures and the frames to look at, made of shards
"""
