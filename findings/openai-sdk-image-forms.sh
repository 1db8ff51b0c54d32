#!/bin/sh
# How the openai package sends edits of images. Seen with openai 3.57.0 on Python 3.11.
#
# From memory one would write a server that expects what the API's reference shows: parts `image` of the type image/png,
# and the fields that were given. The package does otherwise:
#   1. Bytes that are given without a name come as filename="upload" of the type application/octet-stream, whatever
#      picture they are. A server that goes by a part's content type refuses every such edit.
#   2. A list of pictures comes as parts named `image[]`, a single picture as `image`; an empty list as no part at all.
#   3. None is null in a JSON body (generations), and is left out of a form (edits): a field that a caller set to None
#      reaches only one of the two routes.
#   4. Booleans and numbers of a form are the texts `false` and `0`.
# Source: openai/_files.py, openai/_base_client.py (_serialize_multipartform), openai/resources/images.py.
# Ends with 1 where a later version does otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openai==3.57.0
cat > "$folder/seen.py" <<'PYTHON'
import http.server
import json
import re
import threading

import openai

bodies: list[bytes] = []


class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        bodies.append(self.rfile.read(int(self.headers["content-length"])))
        told = json.dumps({"created": 1, "data": [{"b64_json": "AA=="}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *words: object) -> None:
        pass


def parts(body: bytes) -> list[str]:
    """The first lines of each part of a form, and its text."""
    boundary = body.split(b"\r\n", 1)[0]
    return [re.sub(r"\s+", " ", part.decode()).strip() for part in body.split(boundary)[1:-1]]


server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none")
client.images.edit(image=b"one", prompt="night", n=None, stream=False, partial_images=0)
client.images.edit(image=[b"one", ("b.png", b"two", "image/png")], prompt="night")
client.images.edit(image=[], prompt="night")
client.images.generate(prompt="night", n=None)
single, several, empty = map(parts, bodies[:3])
generated = json.loads(bodies[3])
print("openai", openai.__version__)
for form in (single, several, empty):
    print(form)
print(generated)
octets = 'filename="upload" Content-Type: application/octet-stream one'
assert f'Content-Disposition: form-data; name="image"; {octets}' in single
assert not any('name="n"' in part for part in single)
assert 'Content-Disposition: form-data; name="stream" false' in single
assert 'Content-Disposition: form-data; name="partial_images" 0' in single
assert [part.split(";")[1] for part in several if "filename" in part] == [' name="image[]"'] * 2
assert len(empty) == 1
assert generated == {"prompt": "night", "n": None}
PYTHON
"$folder/venv/bin/python" "$folder/seen.py"
