package config

import "os"

// FileKey is the environment variable that names the YAML file.
const FileKey = "CONFIG_FILE"

// Sources is where a configuration comes from. The zero value has no
// environment and no files.
type Sources struct {
	// Lookup gives an environment variable, as os.LookupEnv does.
	Lookup func(key string) (string, bool)
	// ReadFile gives a file's content, as os.ReadFile does.
	ReadFile func(name string) ([]byte, error)
}

// OS returns the sources of this process: its environment and its files.
func OS() Sources {
	return Sources{Lookup: os.LookupEnv, ReadFile: os.ReadFile}
}

// Map returns sources with the given environment and the files of this machine.
// The map must not change while the sources are in use.
func Map(env map[string]string) Sources {
	return Sources{
		Lookup: func(key string) (string, bool) {
			v, ok := env[key]
			return v, ok
		},
		ReadFile: os.ReadFile,
	}
}

// env gives a variable that is set and not empty. An empty variable counts as
// not set, as it does for OpenTelemetry's variables: compose files and charts
// write KEY="" for what their user left out.
func (s Sources) env(key string) (string, bool) {
	if s.Lookup == nil || key == "" {
		return "", false
	}
	v, ok := s.Lookup(key)
	return v, ok && v != ""
}

func (s Sources) read(name string) ([]byte, error) {
	if s.ReadFile == nil {
		return nil, os.ErrNotExist
	}
	return s.ReadFile(name)
}

// recorded is s, with every file that is read told to seen.
func (s Sources) recorded(seen sightings) Sources {
	read := s.read
	s.ReadFile = func(name string) ([]byte, error) {
		content, err := read(name)
		seen.add(name, content, err)
		return content, err
	}
	return s
}
