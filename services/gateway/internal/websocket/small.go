package websocket

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
)

const (
	// A client says little: pings and short messages. What is longer than the
	// buffer is read past it.
	readBuffer = 512
	// Most events are written in one piece.
	writeBuffer = 1 << 10
)

// small hands a connection over with small buffers. Those of net/http, of 4 KiB
// each, would live as long as the client stays.
type small struct {
	http.ResponseWriter
}

// Hijack implements http.Hijacker.
func (s small) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	var in io.Reader = conn
	if early, _ := rw.Peek(rw.Reader.Buffered()); len(early) > 0 {
		// A client that does not wait for the answer: its frames may be longer
		// than the buffer.
		conn = &begun{Conn: conn, in: io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn)}
		in = conn
	}
	return conn, bufio.NewReadWriter(bufio.NewReaderSize(in, readBuffer), bufio.NewWriterSize(conn, writeBuffer)), nil
}

// begun is a connection of which some has been read already.
type begun struct {
	net.Conn
	in io.Reader
}

// Read implements net.Conn.
func (b *begun) Read(p []byte) (int, error) { return b.in.Read(p) }
