// Runs before every other script of a page.
document.documentElement.dataset.scripts = "on"; // what stands for a figure that moves is hidden where it moves
