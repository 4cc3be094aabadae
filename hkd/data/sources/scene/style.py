"""The distribution of generated scenes, in one place: what makes them hard or easy."""

from __future__ import annotations

from dataclasses import dataclass

REFERENCE_HEIGHT = 288
"""Rows of the picture in which a style's pixel lengths are stated; other pictures scale them."""
SMALLEST_SIDE = 64
"""Shortest allowed side of a scene, pixels."""


@dataclass(frozen=True)
class SceneStyle:
    """The distribution of scenes, which determines how hard they are. Lengths are pixels of a picture of 288 rows.

    Ranges ``(low, high)`` are sampled uniformly, a scene or a figure at a time; counts include both ends.
    """

    pedestrian_count_weights: tuple[float, ...] = (7, 9, 16, 20, 18, 14, 9, 4, 2, 1)
    """Relative frequency of scenes with 0, 1, 2 ... pedestrians; occluding pedestrians and crowds come on top."""
    median_height: float = 100.0
    """Median of the pedestrians' heights, which are log-normal between the limits below."""
    log_height_deviation: float = 0.42
    """Standard deviation of the natural logarithm of the height, before truncation."""
    shortest: float = 24.0
    """Heights are not drawn below this ..."""
    tallest: float = 205.0
    """... nor above; an occluding pedestrian is nearer than the one it occludes, and may be taller."""
    contrast: tuple[float, float] = (0.85, 1.0)
    """Weight of a figure's colour in a mixture with the mean colour behind it."""
    occlusion_probability: float = 0.2
    """Fraction of pedestrians with an occluder placed in front."""
    occluding_pedestrian_share: float = 0.3
    """Fraction of these occluders that are pedestrians."""
    look_alikes: tuple[int, int] = (0, 3)
    """Fewest and most poles, signs, trees and statues per scene."""
    clutter: tuple[int, int] = (0, 3)
    """Fewest and most parked cars, bins and hedges per scene, placed at random."""
    crowd_probability: float = 0.18
    """Fraction of scenes with a distant crowd, which is one ignore region."""
    crowd_size: tuple[int, int] = (5, 12)
    """Fewest and most people of a crowd."""
    crowd_height: tuple[float, float] = (18.0, 38.0)
    """Smallest and largest height of people of a crowd."""
    ignored_below_height: float = 20.0
    """Boxes lower than this, in pixels of the drawn picture, are ignore regions."""
    ignored_below_visibility: float = 0.2
    """Boxes less visible than this are ignore regions, as no CityPersons subset counts them."""
    ignored_below_fill: float = 0.5
    """A figure is an ignore region if less than this fraction of its pixels *inside its visible box* is visible: a head
    above a car and a foot below it span a large visible box, although little is visible."""
    texture: tuple[float, float] = (0.02, 0.06)
    """Relative deviation of the brightness of surfaces."""
    unevenness: float = 0.12
    """Relative deviation of the light over the picture."""
    gain: tuple[float, float] = (0.75, 1.25)
    """Factor on the brightness of the whole picture."""
    picture_contrast: tuple[float, float] = (0.7, 1.1)
    """Factor on its contrast, about a middle grey."""
    tint: float = 0.06
    """Largest relative change of a colour channel."""
    blur: tuple[float, float] = (0.2, 0.8)
    """Deviation of the blur over the whole picture, pixels of the picture itself."""
    noise: tuple[float, float] = (1.0, 3.0)
    """Deviation of the sensor's noise, of 255."""
    night_probability: float = 0.0
    """Fraction of scenes at night, lit by a few lamps."""
    rain_probability: float = 0.0
    """Fraction of scenes in rain."""
    fog_probability: float = 0.0
    """Fraction of scenes in fog."""
    motion_blur_probability: float = 0.0
    """Fraction of scenes seen from a moving camera."""

    def __post_init__(self) -> None:
        if not 0.0 < self.shortest < self.median_height < self.tallest:
            raise ValueError(
                f"a scene style's heights are shortest {self.shortest}, median {self.median_height}, tallest "
                f"{self.tallest}; they must be positive and rise in this order"
            )
        if not 0.0 < self.blur[0] <= self.blur[1]:
            raise ValueError(f"a scene style's blur is {self.blur}; it must be a rising range above 0")


DEFAULT_STYLE = SceneStyle()
HARD_STYLE = SceneStyle(
    pedestrian_count_weights=(4, 6, 10, 14, 16, 16, 14, 10, 6, 4),
    median_height=100.0,
    log_height_deviation=0.45,
    contrast=(0.6, 1.0),
    occlusion_probability=0.35,
    occluding_pedestrian_share=0.5,
    look_alikes=(2, 7),
    clutter=(1, 4),
    crowd_probability=0.3,
    crowd_size=(6, 16),
    crowd_height=(18.0, 45.0),
    texture=(0.02, 0.1),
    unevenness=0.2,
    gain=(0.65, 1.3),
    picture_contrast=(0.6, 1.15),
    tint=0.12,
    blur=(0.2, 1.0),
    noise=(1.5, 6.0),
    night_probability=0.15,
    rain_probability=0.15,
    fog_probability=0.15,
    motion_blur_probability=0.15,
)
"""More, and more occluded people, crowds, look-alikes, night, rain, fog, blur and noise: capacity and data matter."""
STYLES = {"street": DEFAULT_STYLE, "hard": HARD_STYLE}
"""Styles by their names in the configuration."""
