"""What a browser shows at the server's address: what this is, its routes, and a call to copy. The page asks for nothing
from anywhere."""

from html import escape

from fewstep.sample.server.image_request import ServedModel

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{name}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em }}
pre {{ background: #f4f4f4; padding: 1em; overflow-x: auto }}</style>
</head>
<body>
<h1>{name}</h1>
<p>A student of {steps} steps, behind the OpenAI images API. Clients take <code>{address}v1</code> as their base
address, any key, and {names} as the model.</p>
<ul>
<li><code>POST /v1/images/generations</code>: a picture from a prompt</li>
<li><code>POST /v1/images/edits</code>: a picture from a prompt and up to {references} pictures</li>
<li><code>GET /v1/models</code>, <code>GET /v1/models/NAME</code>: what is served</li>
<li><code>GET /health</code>: whether pictures can be drawn</li>
</ul>
<p>Sizes: {sizes}, or others of up to {pixels} pixels with sides that are multiples of {multiple}. Without a size a
picture has {own} pixels, and an edit the shape of its last reference.</p>
<pre>curl {address}v1/images/generations -H 'content-type: application/json' \\
  -d '{{"prompt": "a lighthouse at dawn", "seed": 7}}' \\
  | grep -o '"b64_json":"[^"]*' | cut -d '"' -f 4 | base64 -d > picture.png
</pre>
<p>Served by fewstep.</p>
</body>
</html>
"""


def front_page(served: ServedModel, address: str) -> str:
    """The page. address: of this server as the client wrote it, with a slash at the end."""
    height, width = served.size
    return PAGE.format(
        name=escape(served.name),
        names=" or ".join(f"<code>{escape(name)}</code>" for name in served.names),
        address=escape(address),
        steps=served.steps,
        references=served.max_references,
        sizes=served.examples(),
        pixels=f"{served.most_pixels:,}",
        multiple=served.multiple,
        own=f"{width}x{height}",
    )
