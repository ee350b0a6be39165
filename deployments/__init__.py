"""What starts and serves Holdfast: bootstrap code, the demo, provisioning of local parts."""
