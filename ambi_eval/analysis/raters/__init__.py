"""What single raters make possible: single votes as targets, a second clustering, latent truth, groups, reliability."""
