package deskapi

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
)

// picture draws a small tent for sample attachments. It is a PNG: browsers show
// no SVG that comes as plain bytes, which is how AXP's media store answers.
func picture() ([]byte, error) {
	const width, height, top, floor = 320, 180, 40, 150
	ground, cloth, door := color.NRGBA{0xdf, 0xe9, 0xe4, 0xff}, color.NRGBA{0x2f, 0x6f, 0x5e, 0xff}, color.NRGBA{0x17, 0x3a, 0x31, 0xff}
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			at := ground
			if half := (y - top) * 120 / (floor - top); y >= top && y < floor && x > width/2-half && x < width/2+half {
				at = cloth
			}
			if half := (y - 90) * 25 / (floor - 90); y >= 90 && y < floor && x > width/2-half && x < width/2+half {
				at = door
			}
			img.SetNRGBA(x, y, at)
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
