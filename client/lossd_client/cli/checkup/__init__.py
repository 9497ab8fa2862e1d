"""What `lossd doctor` looks at, one thing after the other, each built on those before it."""
