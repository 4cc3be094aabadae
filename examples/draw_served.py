"""Send a picture to a served model, and draw the boxes of its answer. Needs pillow, nothing else.

mlflow models serve --env-manager local -m models:/people@champion
python draw_served.py street.jpg drawn.png http://127.0.0.1:5000
"""

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps


def ask(server, content, score_threshold=0.5):
    """The answer to the bytes of a file: boxes x1, y1, x2, y2 in pixels of the upright picture, and scores."""
    records = [{"image": base64.b64encode(content).decode()}]
    body = json.dumps({"dataframe_records": records, "params": {"score_threshold": score_threshold}}).encode()
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{server}/invocations", body, kind)  # noqa: S310 (the user names the server)
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)["predictions"][0]


if __name__ == "__main__":
    path, out, server = sys.argv[1:]
    try:
        found = ask(server.rstrip("/"), Path(path).read_bytes())
    except urllib.error.HTTPError as error:
        sys.exit(f"{path}: {server} answers with status {error.code}: {error.read(2000).decode(errors='replace')}")
    except urllib.error.URLError as error:
        sys.exit(f"{server}: {error.reason}; start it with mlflow models serve, and wait for 'startup complete'")
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    canvas = ImageDraw.Draw(picture)
    for box, score in zip(found["boxes"], found["scores"], strict=True):
        print(path, *(round(side, 1) for side in box), f"{score:.3f}")
        canvas.rectangle(box, outline=(255, 64, 0), width=max(1, round(max(picture.size) / 300)))
    picture.save(out)
