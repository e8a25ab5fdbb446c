// Imports the overlay of every slide of a QuPath project that wsi-anomaly has scored.
//
// QuPath 0.4 or later: Automate > Script editor, put the path of your results folder below, then
// Run > Run for project. Each slide gets its tiles (with "Anomaly score" as a measurement) and the
// outlines of its anomalous regions. Running it twice adds nothing twice.
import qupath.lib.io.PathIO

def results = new File('/path/to/results')

def name = getCurrentImageNameWithoutExtension()
def folder = new File(results, name)
def overlay = ['overlay.geojson', 'overlay.geojson.gz']
    .collect { new File(folder, it) }
    .find { it.exists() }
if (overlay == null) {
    println 'No overlay for ' + name + ' in ' + results
    return
}
def known = getAllObjects(false).collect { it.getID() } as Set
def fresh = PathIO.readObjects(overlay).findAll { !(it.getID() in known) }
addObjects(fresh)
resolveHierarchy()
fireHierarchyUpdate()
println name + ': ' + fresh.size() + ' objects added'
// Colour the tiles: Measure > Show measurement maps > Anomaly percentile.
