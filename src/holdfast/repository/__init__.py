"""The restic repository format, version 2: keys, blobs, packs, indexes, trees, snapshots, locks."""
