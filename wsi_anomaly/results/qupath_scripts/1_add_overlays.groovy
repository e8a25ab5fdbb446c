// Adds the overlay of wsi-anomaly to every image of this project, and shows it.
//
// Automate > Project scripts > 1_add_overlays, then Run > Run for project (all images). QuPath 0.4
// or later. Running it again adds nothing twice, takes nothing away, and leaves alone what has been
// given another class.
import qupath.lib.color.ColorMaps
import qupath.lib.gui.tools.MeasurementMapper
import qupath.lib.io.PathIO
import qupath.lib.objects.classes.PathClass

// In a project of your own: put the path of the results folder here; images are found by name.
def results = ''

def entry = getProjectEntry()
def folder = results ? new File(results, getCurrentImageNameWithoutExtension())
                     : entry.getEntryPath().toFile()
def overlay = ['overlay.geojson', 'overlay.geojson.gz']
    .collect { new File(folder, it) }
    .find { it.exists() }
if (overlay == null) {
    println entry.getImageName() + ': no overlay in ' + folder
    return
}

if (getCurrentImageData().getImageType().name() == 'UNSET')
    setImageType('BRIGHTFIELD_H_E')
def known = getAllObjects(false).collect { it.getID() } as Set
def fresh = PathIO.readObjects(overlay.toPath()).findAll { !(it.getID() in known) }
addObjects(fresh)
resolveHierarchy()
fireHierarchyUpdate()
println entry.getImageName() + ': ' + fresh.size() + ' objects added'

// How it is shown belongs to the viewer, not to the image: percentiles of normal tissue from 90 to
// 100, the same on every slide, and normal tissue as it is.
def viewer = getCurrentViewer()
def measurement = 'Anomaly percentile'
def tiles = getAllObjects(false).findAll { it.isTile() && it.getMeasurementList().get(measurement) >= 0 }
if (viewer != null && !tiles.isEmpty()) {
    def options = viewer.getOverlayOptions()
    def maps = ColorMaps.getColorMaps()
    def mapper = new MeasurementMapper(maps['Inferno'] ?: maps.values()[0], measurement, tiles)
    mapper.setDisplayMinValue(90)
    mapper.setDisplayMaxValue(100)
    javafx.application.Platform.runLater {
        options.setMeasurementMapper(mapper)
        options.setFillDetections(true)
        options.setPathClassHidden(PathClass.fromString('Normal'), true)
        viewer.repaintEntireImage()
    }
}
