package grpcx

// WithServerDefaults lets tests compare the defaults of zero values with those
// of the tags.
func WithServerDefaults(c ServerConfig) ServerConfig { return c.withDefaults() }

// WithClientDefaults is the same for clients.
func WithClientDefaults(c ClientConfig) ClientConfig { return c.withDefaults() }
