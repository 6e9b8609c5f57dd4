// Command composecheck loads a compose file with an env file as docker compose
// would, with every profile on, and fails where it is not valid.
// Usage: composecheck COMPOSE-FILE ENV-FILE.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: composecheck COMPOSE-FILE ENV-FILE")
		os.Exit(2)
	}
	if err := check(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "composecheck:", err)
		os.Exit(1)
	}
}

func check(ctx context.Context, file, env string) error {
	opts, err := cli.NewProjectOptions([]string{file},
		cli.WithEnvFiles(env), cli.WithDotEnv, cli.WithDefaultProfiles("*"), cli.WithInterpolation(true))
	if err != nil {
		return err
	}
	project, err := opts.LoadProject(ctx)
	if err != nil {
		return err
	}
	for name, s := range project.Services {
		if s.Build == nil {
			continue
		}
		if _, err := os.Stat(s.Build.Context + "/" + s.Build.Dockerfile); err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
	}
	fmt.Printf("compose: %d services valid\n", len(project.Services))
	return nil
}
