"""What stands under a transparent picture."""

from PIL import Image, ImageDraw

CHECKS = ((255, 255, 255), (214, 214, 214))
CHECK = 8  # px


def on_checks(picture: Image.Image) -> Image.Image:
    """The picture in RGB. Where it is transparent, a chequered ground shows through: plain black or white could be the
    picture's own."""
    if picture.mode not in ("RGBA", "LA", "PA") and "transparency" not in picture.info:
        return picture.convert("RGB")
    clear = picture.convert("RGBA")
    ground = Image.new("RGB", clear.size, CHECKS[0])
    pen = ImageDraw.Draw(ground)
    for y in range(0, clear.height, CHECK):
        for x in range((y // CHECK % 2) * CHECK, clear.width, 2 * CHECK):
            pen.rectangle((x, y, x + CHECK - 1, y + CHECK - 1), fill=CHECKS[1])
    ground.paste(clear, mask=clear.getchannel("A"))
    return ground
