"""What a mask gives: areas, polygons, RLE, palette PNG, free space, overlay."""
