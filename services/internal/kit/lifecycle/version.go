package lifecycle

import "runtime/debug"

// version is what a release build sets by
// -ldflags "-X github.com/axpchat/connector/services/internal/kit/lifecycle.version=v1.2.3".
// The linker can only set a variable; nothing else writes it.
var version string

// Version returns the version of the running binary: what the release build set,
// else the commit that it was built from, else "dev".
func Version() string {
	if version != "" {
		return version
	}
	if rev := revision(); rev != "" {
		return "dev-" + rev
	}
	return "dev"
}

// revision returns the commit of the build, "" when the build did not record it,
// marked when there were changes on top.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	rev, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			rev = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if rev == "" {
		return ""
	}
	return rev + dirty
}
