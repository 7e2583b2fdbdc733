"""Writes Nav2's parameters of a local costmap that reads edgeseg's topics, for a model and a grid.

    python -m runtime.examples.nav2_parameters --free road pavement > nav2_costmap.yaml

Its semantic layer wants each class of the model in one of its class types, and distances that the grid has.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.base.flags import flag, nested, run_command
from runtime.contract import ClassMap
from runtime.ground.options import GridOptions, free_indices
from runtime.network.options import ModelOptions

_PARAMETERS = """\
# A local costmap of Nav2 that reads edgeseg's topics: merge it into your own parameters. Written by
# python -m runtime.examples.nav2_parameters {flags}
#
# semantic_layer is https://github.com/kiwicampus/semantic_segmentation_layer, built beside Nav2. Every class
# that /segmentation/label_info names must be in one of its class types. obstacle_layer needs nothing but
# Nav2. One of the two is enough.
local_costmap:
  local_costmap:
    ros__parameters:
      global_frame: odom
      robot_base_frame: base_link
      rolling_window: true
      width: {side_m}
      height: {side_m}
      resolution: {cell_m:g}
      update_frequency: 5.0
      publish_frequency: 2.0
      track_unknown_space: true
      plugins: ["semantic_layer", "obstacle_layer", "inflation_layer"]
      semantic_layer:
        plugin: "semantic_segmentation_layer::SemanticSegmentationLayer"
        enabled: true
        observation_sources: camera
        camera:
          segmentation_topic: "/segmentation/mask"
          confidence_topic: "" # "/segmentation/confidence" where the node publishes it
          labels_topic: "/segmentation/label_info"
          pointcloud_topic: "/segmentation/points"
          max_obstacle_distance: {far_m:.1f}
          min_obstacle_distance: {near_m:.1f}
          tile_map_decay_time: 2.0
          class_types: ["traversable", "danger"]
          traversable:
            classes: {free}
            base_cost: 0
            max_cost: 0
            mark_confidence: 0
            samples_to_max_cost: 0
            dominant_priority: false
          danger:
            classes: {blocked}
            base_cost: 254
            max_cost: 254
            mark_confidence: 0
            samples_to_max_cost: 0
            dominant_priority: true
      obstacle_layer:
        plugin: "nav2_costmap_2d::ObstacleLayer"
        enabled: true
        observation_sources: scan
        scan:
          topic: "/segmentation/scan"
          data_type: "LaserScan"
          marking: true
          clearing: true
          inf_is_valid: true # nothing is there as far as the grid reaches
          min_obstacle_height: -0.5
          max_obstacle_height: 2.0
          obstacle_max_range: {mark_m:.1f}
          raytrace_max_range: {far_m:.1f}
      inflation_layer:
        plugin: "nav2_costmap_2d::InflationLayer"
        inflation_radius: 0.5
        cost_scaling_factor: 3.0
"""
_LEAST_M = 0.3  # nearer ground is below the robot itself


def parameters(classes: ClassMap, free: Sequence[str], grid: GridOptions, flags: str = "") -> str:
    """Return the parameters as YAML.

    Args:
        classes: of the model.
        free: names of those that may be driven on; none for those that the contract calls traversable.
        grid: on the ground, as the node has it.
        flags: of the command, for the comment on top.

    Raises:
        ConfigError: a class that the model does not know, or none that may be driven on.
    """
    indices = free_indices(free, classes)
    kinds: tuple[list[str], list[str]] = [], []
    for index, name in enumerate(classes.names):
        kinds[index in indices].append(name)
    near_m, far_m = grid.grid_ahead
    return _PARAMETERS.format(
        flags=flags,
        side_m=2 * math.ceil(far_m),  # the robot is in the middle
        cell_m=grid.cell_m,
        near_m=max(near_m, _LEAST_M),
        far_m=far_m,
        mark_m=0.9 * far_m,
        free=json.dumps(kinds[True], ensure_ascii=False),
        blocked=json.dumps(kinds[False], ensure_ascii=False),
    )


@dataclass(frozen=True)
class Nav2Options:
    """What the command line asks for."""

    model: ModelOptions = nested(ModelOptions)
    grid: GridOptions = nested(GridOptions)
    free: tuple[str, ...] = flag(
        "classes of the ground that may be driven on",
        default=(),
        unset="those that the model's contract calls traversable",
        metavar="CLASS",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    flags = " ".join(sys.argv[1:] if argv is None else argv)

    def command(options: Nav2Options) -> None:
        with options.model.open() as segment:
            print(parameters(segment.contract.classes, options.free, options.grid, flags), end="")

    return run_command(
        "runtime.examples.nav2_parameters", "Write Nav2's parameters for a model.", Nav2Options, command, argv
    )


if __name__ == "__main__":
    sys.exit(main())
